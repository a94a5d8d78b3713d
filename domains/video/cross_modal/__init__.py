"""The deformable cross-modal transformer: RGB tokens and tokens of a second modality, reconstructed from its paper."""
