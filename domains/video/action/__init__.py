"""What telling actions apart needs whatever shows them: mixers by name, judging, the confusion."""
