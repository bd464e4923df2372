terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0, >= 6.21"
    }
  }
}

# One configuration manages all regions: every resource names its own.
provider "aws" {
  region = var.regions[0]

  default_tags {
    tags = { application = var.name, environment = var.env }
  }
}
