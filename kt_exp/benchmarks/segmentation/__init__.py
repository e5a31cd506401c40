"""Zero-shot segmentation as in MedCLIP-SAMv2: saliency → coarse mask → SAM (paper, D.2.1)."""
