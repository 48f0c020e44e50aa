"""The metric gate: compares the committed results with targets and with another revision, in any git repository."""
