"""Where the bytes come from: pinned files, fetched from mirrors or public addresses, and the embedded sample."""
