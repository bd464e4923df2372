variable "name" {
  description = "Prefix of the resources' names. Roles are NAME-REGION-tokenize and NAME-REGION-detokenize."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,15}$", var.name))
    error_message = "The name is 2 to 16 lower-case letters, digits and hyphens, a letter first: load balancers' names are short."
  }
}

variable "region" {
  description = "Region of these instances."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "The region is named as AWS names it, such as eu-west-1."
  }
}

variable "image" {
  description = "The vault's image, by digest."
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "Name the image by its digest (…@sha256:…): a tag can be moved."
  }
}

variable "init_image" {
  description = "An image with a POSIX shell, by digest, that writes the configuration and the certificate before the vault starts: busybox does."
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.init_image))
    error_message = "Name the image by its digest (…@sha256:…): a tag can be moved."
  }
}

variable "agent_image" {
  description = "Amazon's CloudWatch agent, by digest, which publishes the vault's metrics."
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.agent_image))
    error_message = "Name the image by its digest (…@sha256:…): a tag can be moved."
  }
}

variable "repository_arns" {
  description = "ECR repositories of the images."
  type        = list(string)

  validation {
    condition     = alltrue([for arn in var.repository_arns : can(regex("^arn:aws[a-z-]*:ecr:[a-z0-9-]+:[0-9]{12}:repository/[^*?]+$", arn))])
    error_message = "Each is the ARN of an ECR repository without a wildcard."
  }
}

variable "user" {
  description = "User and group as which the image runs: the owner of the certificate's key."
  type        = string
  default     = "65532:65532"

  validation {
    condition     = can(regex("^[1-9][0-9]*:[1-9][0-9]*$", var.user))
    error_message = "Numbers of a user and a group, neither of them root."
  }
}

variable "config" {
  description = "vault.yaml of this region. It holds no secrets; the certificate is at /etc/vault/tls.crt, its key at /etc/vault/tls.key."
  type        = string

  validation {
    condition     = can(yamldecode(var.config).region) && length(var.config) <= 32768
    error_message = "The configuration is YAML with a region, and at most 32 KiB."
  }

  validation {
    condition     = try(yamldecode(var.config).region, "") == var.region
    error_message = "The configuration is another region's."
  }
}

variable "tls_secret_arn" {
  description = "Secret of this region, in Secrets Manager, with the JSON keys cert and key (PEM): the certificate that the load balancer meets."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[^*?]+$", var.tls_secret_arn))
    error_message = "The ARN of a secret."
  }
}

variable "tls_secret_key_arn" {
  description = "Customer managed key of that secret; null where it is AWS's own."
  type        = string
  default     = null
}

variable "tenant_key_arns" {
  description = "Keys of single tenants (tenant_keys of vault.yaml), all regions'."
  type        = list(string)
  default     = []
}

variable "ring_key_arns" {
  description = "Region to ring key, all regions: output ring_key_arns of module keys."
  type        = map(string)

  validation {
    condition     = contains(keys(var.ring_key_arns), var.region)
    error_message = "The ring holds this region's key too."
  }
}

variable "storage_key_arn" {
  description = "This region's key for logs."
  type        = string
}

variable "signing_key_arn" {
  description = "This region's key for audit checkpoints; null where a local key signs."
  type        = string
  default     = null
}

variable "table_arns" {
  description = "Region to table to ARN, all regions: output arns of module tables."
  type        = map(map(string))

  validation {
    condition     = alltrue([for tables in values(var.table_arns) : length(setsubtract(["records", "audit", "audit_index", "control", "counters"], keys(tables))) == 0])
    error_message = "Every region has the tables records, audit, audit_index, control and counters."
  }
}

variable "two_regions" {
  description = "Whether vault.yaml says `durability: two_regions`: instances then write records into other regions' tables too."
  type        = bool
  default     = false
}

variable "checkpoint_bucket_arn" {
  description = "Bucket for checkpoints: output arn of module audit; null for none."
  type        = string
  default     = null
}

variable "checkpoint_key_arn" {
  description = "Key of that bucket."
  type        = string
  default     = null

  validation {
    condition     = (var.checkpoint_bucket_arn == null) == (var.checkpoint_key_arn == null)
    error_message = "A checkpoint bucket and its key go together."
  }
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "private_subnet_ids" {
  description = "Subnets of the instances and endpoints, in at least two zones, with a way out to the other regions' KMS and DynamoDB."
  type        = list(string)

  validation {
    condition     = length(var.private_subnet_ids) >= 2
    error_message = "At least two subnets, in different zones."
  }
}

variable "private_route_table_ids" {
  description = "Route tables of those subnets."
  type        = list(string)
}

variable "load_balancer_subnet_ids" {
  description = "Subnets of the load balancer, in at least two zones."
  type        = list(string)

  validation {
    condition     = length(var.load_balancer_subnet_ids) >= 2
    error_message = "At least two subnets, in different zones."
  }
}

variable "internal" {
  description = "Whether the load balancer has private addresses only."
  type        = bool
  default     = true
}

variable "client_cidrs" {
  description = "Networks from which clients come."
  type        = list(string)

  validation {
    condition     = length(var.client_cidrs) > 0 && alltrue([for cidr in var.client_cidrs : can(cidrhost(cidr, 0))])
    error_message = "At least one network, such as 10.0.0.0/8."
  }
}

variable "remote_cidrs" {
  description = "Networks in which other regions' KMS and DynamoDB answer. AWS publishes no prefix list for another region: narrow it with ip-ranges.json or a firewall."
  type        = list(string)
  default     = ["0.0.0.0/0"]

  validation {
    condition     = alltrue([for cidr in var.remote_cidrs : can(cidrhost(cidr, 0))])
    error_message = "Each is a network in CIDR form."
  }
}

variable "certificate_arn" {
  description = "ACM certificate of this region for the name that clients call."
  type        = string
}

variable "access_log_bucket" {
  description = "Bucket for the load balancer's access logs; null for none. Nothing sensitive is ever in a URL."
  type        = string
  default     = null
}

variable "cpu" {
  description = "CPU units of a task, 1024 to a vCPU."
  type        = number
  default     = 2048

  validation {
    condition     = contains([512, 1024, 2048, 4096, 8192, 16384], var.cpu)
    error_message = "A size that Fargate has, from 512."
  }
}

variable "memory" {
  description = "Memory of a task in MiB."
  type        = number
  default     = 4096

  validation {
    condition     = var.memory >= 1024 && var.memory <= 122880
    error_message = "From 1024 to 122880 MiB; Fargate has not every size with every CPU."
  }
}

variable "cpu_architecture" {
  description = "Architecture for which the images were built."
  type        = string
  default     = "ARM64"

  validation {
    condition     = contains(["ARM64", "X86_64"], var.cpu_architecture)
    error_message = "ARM64 or X86_64."
  }
}

variable "tasks" {
  description = "Fewest and most tasks of each kind."
  type = object({
    min = optional(number, 2)
    max = optional(number, 20)
  })
  default = {}

  validation {
    condition     = var.tasks.min >= 2 && var.tasks.max >= var.tasks.min
    error_message = "At least two tasks, so that one may be replaced."
  }
}

variable "log_retention_in_days" {
  description = "Days for which logs are kept."
  type        = number
  default     = 365

  validation {
    condition     = contains([90, 180, 365, 731, 1827, 3653], var.log_retention_in_days)
    error_message = "One of 90, 180, 365, 731, 1827, 3653."
  }
}

variable "alarm_topic_arns" {
  description = "SNS topics of this region that alarms go to."
  type        = list(string)
  default     = []
}

variable "alarm_thresholds" {
  description = "decrypts: KMS Decrypt calls a minute with this region's key, from all regions. degraded: records without some region's key copy. replication_lag: milliseconds."
  type = object({
    decrypts        = optional(number, 6000)
    degraded        = optional(number, 0)
    replication_lag = optional(number, 60000)
  })
  default = {}

  validation {
    condition     = var.alarm_thresholds.decrypts > 0 && var.alarm_thresholds.degraded >= 0 && var.alarm_thresholds.replication_lag > 0
    error_message = "Thresholds are not negative."
  }
}

variable "deletion_protection" {
  description = "Whether the load balancer refuses to be deleted."
  type        = bool
  default     = true
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
}
