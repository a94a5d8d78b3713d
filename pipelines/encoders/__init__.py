"""Pretrained encoders of pictures that more than one domain starts from: images in, feature maps out."""
