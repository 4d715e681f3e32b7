"""Training: augmentation, batches, losses, schedules, backups, loops, devices.

Imports models, dataset, imagery, params and runtime.
"""
