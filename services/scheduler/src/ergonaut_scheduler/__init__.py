"""Takes jobs in, weighs every offer at every hour for each, and chooses by price, carbon, deadline and budget.

Promises: a job that was taken in is never lost and never run twice; every decision says why; equal inputs give equal decisions.
Reads: offers and intensity from `pricing`, `runs.run.*` events. Emits: `jobs.job.submitted`, `placed`, `refused`, `cancelled`.
"""
