"""Networks: what sees a picture (ViT, DCAL, a CNN), and what makes an embedding and a decision of it."""
