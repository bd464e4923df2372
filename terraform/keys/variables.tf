variable "name" {
  description = "Prefix of aliases and descriptions, and of nothing else."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}$", var.name))
    error_message = "The name is 2 to 31 lower-case letters, digits and hyphens, a letter first."
  }
}

variable "regions" {
  description = "Regions of the key ring, in its order. The first holds the primary of a multi-Region key."
  type        = list(string)

  validation {
    condition     = length(var.regions) >= 1 && length(var.regions) <= 8 && length(distinct(var.regions)) == length(var.regions)
    error_message = "A ring has 1 to 8 regions, each once: a message holds at most 8 key copies."
  }

  validation {
    condition     = alltrue([for region in var.regions : can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", region))])
    error_message = "Each region is named as AWS names it, such as eu-west-1."
  }
}

variable "mode" {
  description = "copies: a key per region, and a copy of each data key under every one of them. multi_region: one key with replicas, and one copy that each region opens."
  type        = string
  default     = "copies"

  validation {
    condition     = contains(["copies", "multi_region"], var.mode)
    error_message = "The mode is copies or multi_region."
  }
}

variable "tokenizing_role_arns" {
  description = "Task roles of tokenizing instances, all regions. They may make and wrap data keys, and open tenant secrets. The roles need not exist yet."
  type        = list(string)

  validation {
    condition     = length(var.tokenizing_role_arns) > 0 && alltrue([for arn in var.tokenizing_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[^*?]+$", arn))])
    error_message = "At least one role's ARN, none with a wildcard."
  }
}

variable "detokenizing_role_arns" {
  description = "Task roles of detokenizing instances, all regions. They may open data keys, and wrap them again to repair records. The roles need not exist yet."
  type        = list(string)

  validation {
    condition     = length(var.detokenizing_role_arns) > 0 && alltrue([for arn in var.detokenizing_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[^*?]+$", arn))])
    error_message = "At least one role's ARN, none with a wildcard."
  }
}

variable "bootstrap_role_arns" {
  description = "Roles that may run `vault tenant create` and `vault key create`: they make, wrap and open tenant secrets, and nothing else."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.bootstrap_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[^*?]+$", arn))])
    error_message = "Each is a role's ARN without a wildcard."
  }
}

variable "administrator_arns" {
  description = "Principals that may administer the keys, and use none of them. Empty: whoever IAM of the account lets."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.administrator_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/[^*?]+$", arn))])
    error_message = "Each is the ARN of a role or user without a wildcard."
  }
}

variable "tenant_ids" {
  description = "Tenants (pv-tenant) whose data keys the ring serves. Empty: any, since ids are random and made after the keys."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.tenant_ids : can(regex("^[A-Za-z0-9_-]+$", id))])
    error_message = "A tenant id has letters, digits, - and _ only; a wildcard is none."
  }
}

variable "signing_keys" {
  description = "Whether each region gets an Ed25519 key for audit checkpoints."
  type        = bool
  default     = true
}

variable "rotation_period_in_days" {
  description = "Days between automatic rotations of symmetric keys."
  type        = number
  default     = 365

  validation {
    condition     = var.rotation_period_in_days >= 90 && var.rotation_period_in_days <= 2560
    error_message = "KMS rotates every 90 to 2560 days."
  }
}

variable "deletion_window_in_days" {
  description = "Days between scheduling a key's deletion and the deletion. A deleted ring key makes its copies unreadable for ever."
  type        = number
  default     = 30

  validation {
    condition     = var.deletion_window_in_days >= 7 && var.deletion_window_in_days <= 30
    error_message = "KMS waits 7 to 30 days."
  }
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
}
