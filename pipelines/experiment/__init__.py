"""One run from cases to report, for any task: prepare → train → evaluate → write the model → report."""
