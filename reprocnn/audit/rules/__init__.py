"""The rules of the audit, by what they judge; docs/reference/audit-rules.md is made from their own text."""
