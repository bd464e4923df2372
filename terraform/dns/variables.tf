variable "zone_id" {
  description = "Hosted zone of the name."
  type        = string
}

variable "name" {
  description = "Name that clients call in every region, such as vault.example.com."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9-]+([.][a-z0-9-]+)+$", var.name))
    error_message = "A full name in lower case, without a dot at its end."
  }
}

variable "endpoints" {
  description = "Region to its load balancer, and the alarms that are on while the region cannot serve: outputs load_balancer and ready_alarms of module service."
  type = map(object({
    dns_name     = string
    zone_id      = string
    ready_alarms = list(string)
  }))

  validation {
    condition     = length(var.endpoints) > 0 && alltrue([for endpoint in values(var.endpoints) : length(endpoint.ready_alarms) > 0])
    error_message = "At least one region, each with at least one alarm."
  }
}

variable "public" {
  description = "Whether Route 53's health checkers can reach the load balancers: then they ask /readyz themselves too."
  type        = bool
  default     = false
}

variable "tags" {
  description = "Tags of the health checks."
  type        = map(string)
  default     = {}
}
