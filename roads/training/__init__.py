"""How a net is trained: augmentation, batches, losses, schedules, backup, loops, devices.

Imports models, dataset, imagery, params and runtime.
"""
