"""What every stage and tool may use: params, errors, files. Imports nothing else of the project."""
