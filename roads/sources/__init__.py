"""Where tiles come from: generated, downloaded, or a folder of the user's own."""
