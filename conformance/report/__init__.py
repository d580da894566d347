"""Reports: all made from a results file, none from anything else."""
