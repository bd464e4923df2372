# `terraform test`: plans and applies against a provider that makes nothing, so
# it needs no account. Needs Terraform 1.9 and, for its schema, the provider.

mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["a", "b", "c"] }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-west-1:111122223333:key/1" }
  }
  mock_resource "aws_kms_replica_key" {
    defaults = { arn = "arn:aws:kms:us-east-1:111122223333:key/1" }
  }
  mock_resource "aws_acm_certificate" {
    defaults = {
      arn = "arn:aws:acm:eu-west-1:111122223333:certificate/1"
      domain_validation_options = [
        { domain_name = "vault.example.com", resource_record_name = "_x.vault.example.com", resource_record_type = "CNAME", resource_record_value = "y" },
        { domain_name = "*.vault.example.com", resource_record_name = "_x.vault.example.com", resource_record_type = "CNAME", resource_record_value = "y" },
      ]
    }
  }
}
variables {
  env               = "prod"
  zone_id           = "Z1"
  domain_name       = "vault.example.com"
  checkpoint_bucket = "example-checkpoints"
  settings          = { types = [{ name = "email", kind = "email" }] }
  images = {
    eu-west-1 = {
      vault           = "vault@sha256:0000000000000000000000000000000000000000000000000000000000000000"
      init            = "busybox@sha256:0000000000000000000000000000000000000000000000000000000000000000"
      agent           = "agent@sha256:0000000000000000000000000000000000000000000000000000000000000000"
      repository_arns = ["arn:aws:ecr:eu-west-1:111122223333:repository/vault"]
    }
    us-east-1 = {
      vault           = "vault@sha256:0000000000000000000000000000000000000000000000000000000000000000"
      init            = "busybox@sha256:0000000000000000000000000000000000000000000000000000000000000000"
      agent           = "agent@sha256:0000000000000000000000000000000000000000000000000000000000000000"
      repository_arns = ["arn:aws:ecr:us-east-1:111122223333:repository/vault"]
    }
  }
  tls_secret_arns = {
    eu-west-1 = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:tls-abc"
    us-east-1 = "arn:aws:secretsmanager:us-east-1:111122223333:secret:tls-abc"
  }
}
run "copies" {
  command = apply

  assert {
    condition     = yamldecode(output.vault_yaml["us-east-1"]).region == "us-east-1"
    error_message = "A region's vault.yaml names the region."
  }

  assert {
    condition     = [for region in yamldecode(output.vault_yaml["us-east-1"]).regions : region.name] == ["eu-west-1", "us-east-1"]
    error_message = "The ring has the same order in every region."
  }

  assert {
    condition = yamldecode(output.vault_yaml["eu-west-1"]).tables == {
      records = "vault-prod-records", audit = "vault-prod-audit", audit_index = "vault-prod-audit-index"
      control = "vault-prod-control", counters = "vault-prod-counters"
    }
    error_message = "vault.yaml names the tables."
  }

  assert {
    condition     = yamldecode(output.vault_yaml["eu-west-1"]).types[0].kind == "email"
    error_message = "Settings are in vault.yaml."
  }
}

run "multi_region" {
  command = plan

  variables {
    ring = { mode = "multi_region" }
  }
}

run "two_regions_durability" {
  command = plan

  variables {
    durability = "two_regions"
  }
}

run "one_region_is_refused" {
  command = plan

  variables {
    regions = ["eu-west-1"]
  }

  expect_failures = [var.regions]
}

run "settings_do_not_override" {
  command = plan

  variables {
    settings = { env = "dev" }
  }

  expect_failures = [var.settings]
}
