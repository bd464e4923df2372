variable "name" {
  description = "Prefix of all names."
  type        = string
  default     = "vault"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,15}$", var.name))
    error_message = "The name is 2 to 16 lower-case letters, digits and hyphens, a letter first."
  }
}

variable "env" {
  description = "Environment, in every token's prefix."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]{1,8}$", var.env))
    error_message = "The environment is 1 to 8 lower-case letters and digits."
  }
}

variable "regions" {
  description = "Regions in the key ring's order."
  type        = list(string)
  default     = ["eu-west-1", "us-east-1"]

  validation {
    condition     = length(var.regions) >= 2 && length(var.regions) <= 8 && length(distinct(var.regions)) == length(var.regions)
    error_message = "2 to 8 regions, each once."
  }
}

variable "ring" {
  description = "The key ring: its mode, the fewest key copies of a write, and its epoch, one more with every change of regions, keys or mode."
  type = object({
    mode       = optional(string, "copies")
    min_copies = optional(number, 1)
    epoch      = optional(number, 1)
  })
  default = {}

  validation {
    condition     = contains(["copies", "multi_region"], var.ring.mode) && var.ring.min_copies >= 1 && var.ring.min_copies <= length(var.regions) && var.ring.epoch >= 1
    error_message = "The mode is copies or multi_region, min_copies 1 to the number of regions, the epoch at least 1."
  }
}

variable "durability" {
  description = "region, or two_regions: the item is in a second region's table before a tokenize is acknowledged."
  type        = string
  default     = "region"

  validation {
    condition     = contains(["region", "two_regions"], var.durability)
    error_message = "region or two_regions."
  }
}

variable "settings" {
  description = "Other keys of vault.yaml, such as types and limits: `vault config example` prints them all."
  type        = any
  default     = {}

  validation {
    condition     = length(setintersection(try(keys(var.settings), []), ["durability", "env", "region", "regions", "ring", "tables"])) == 0
    error_message = "durability, env, region, regions, ring and tables are made here."
  }
}

variable "networks" {
  description = "Region to the CIDR of its VPC, a /16 to /20."
  type        = map(string)
  default     = { eu-west-1 = "10.80.0.0/16", us-east-1 = "10.81.0.0/16" }

  validation {
    condition     = alltrue([for region in var.regions : can(cidrsubnet(var.networks[region], 4, 5))])
    error_message = "Every region needs a network with room for six subnets."
  }
}

variable "client_cidrs" {
  description = "Networks from which clients come."
  type        = list(string)
  default     = ["10.0.0.0/8"]
}

variable "zone_id" {
  description = "Route 53 zone of the name. It must be public for the certificates' validation."
  type        = string
}

variable "domain_name" {
  description = "Name that clients call, such as vault.example.com."
  type        = string
}

variable "images" {
  description = "Region to images, by digest, in an ECR repository of that region: the vault's, a busybox, and Amazon's CloudWatch agent."
  type = map(object({
    vault           = string
    init            = string
    agent           = string
    repository_arns = list(string)
  }))
}

variable "tls_secret_arns" {
  description = "Region to its secret with cert and key (PEM) for the load balancer's connections to instances."
  type        = map(string)
}

variable "bootstrap_role_arns" {
  description = "Roles that run `vault tenant create` and `vault key create`."
  type        = list(string)
  default     = []
}

variable "administrator_arns" {
  description = "Principals that may administer the keys. Empty: whoever IAM of the account lets."
  type        = list(string)
  default     = []
}

variable "alarm_topic_arns" {
  description = "Region to SNS topics for its alarms."
  type        = map(list(string))
  default     = {}
}

variable "checkpoint_bucket" {
  description = "Name of the bucket for audit checkpoints, in the first region."
  type        = string
}

variable "deletion_protection" {
  description = "Whether tables and load balancers refuse to be deleted."
  type        = bool
  default     = true
}
