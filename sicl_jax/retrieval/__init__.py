"""From a trained model and folders of images to features, an index and search results."""
