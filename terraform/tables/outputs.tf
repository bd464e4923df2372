output "names" {
  description = "The tables' names, alike in every region."
  value = {
    for table in concat(local.global_tables, local.regional_tables) : replace(table, "-", "_") => "${var.prefix}${table}"
  }

  # Whoever takes the names wants the tables to be there.
  depends_on = [aws_dynamodb_table.global, aws_dynamodb_table.regional]
}

output "arns" {
  description = "Region to table (records, audit, audit_index, control, counters) to ARN."
  value = {
    for region in var.regions : region => {
      for table in concat(local.global_tables, local.regional_tables) : replace(table, "-", "_") =>
      "arn:${data.aws_partition.current.partition}:dynamodb:${region}:${data.aws_caller_identity.current.account_id}:table/${var.prefix}${table}"
    }
  }

  depends_on = [aws_dynamodb_table.global, aws_dynamodb_table.regional]
}
