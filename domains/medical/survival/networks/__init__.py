"""Networks that give a patient a hazard in each interval, from genomics, from a slide, or from both."""
