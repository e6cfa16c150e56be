"""How much the loss rises when something is removed, estimated from gradients: masks, losses, moments, collection."""
