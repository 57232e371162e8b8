"""The pure core: records and receipts in, verdicts out. No network, no disk, no clock."""
