"""The shop's read models, one file each: table, projection, queries, the SQL view people see."""
