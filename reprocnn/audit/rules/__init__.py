"""The rules of the audit, by what they judge; docs/audit.md is made from their own text."""
