"""The composition root: every live object of the gateway is made here, and nowhere else."""
