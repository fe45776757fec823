"""The pouch: one file for documents, envelopes, receipts and cosignatures where no network is (PROTOCOL.md section 14)."""
