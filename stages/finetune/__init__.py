"""finetune: training that recovers what a transform cost, and that a kill at any moment sets back by one epoch."""
