"""The report: figures, explanations, tables, and the page that holds them."""
