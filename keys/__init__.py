"""Keys and trust: suites, signed documents, the trust core, the keystore. Imports nothing from `exchange`."""
