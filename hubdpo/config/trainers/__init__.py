"""Config files of other trainers: one table a trainer, and what reads a file by them."""
