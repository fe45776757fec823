"""Evidence: one report shown to a stranger, with what proves who said it (docs/PROTOCOL.md section 13)."""
