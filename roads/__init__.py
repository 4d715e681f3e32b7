"""What the stages share: one subject a module."""
