"""Where the joints of persons and animals are, in pictures and videos."""
