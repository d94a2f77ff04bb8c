"""What train_subnet.py does besides training: weights, loss, export, speed, model card."""
