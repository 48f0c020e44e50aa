"""The commands that are no tool of their own: demo, export, lineage, repro, summary, vega, verify."""
