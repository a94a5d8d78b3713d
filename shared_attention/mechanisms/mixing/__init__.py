"""Token mixing that is not attention: pooling, spectra, gated perceptrons, selective scans."""
