"""The colours of the figures and of the page, for light and for dark surroundings."""

# Okabe and Ito's, which colour-blind eyes can separate; on dark paper their lighter ones.
INK, PAPER, FAINT, GREY = "#1f2328", "#ffffff", "#d0d7de", "#59636e"
BLUE, VERMILION = "#0072b2", "#d55e00"
SKY, ORANGE, SILVER = "#56b4e9", "#e69f00", "#d9dce0"

# By drawn colour: its name in the page, and what replaces it in the dark.
THEME = {
    INK: ("ink", "#e6e8eb"),
    PAPER: ("paper", "#15191e"),
    FAINT: ("faint", "#363d46"),
    GREY: ("grey", "#a3abb5"),
    BLUE: ("blue", "#56b4e9"),
    VERMILION: ("vermilion", "#ff8f4d"),
    SKY: ("sky", "#2f86bd"),
    ORANGE: ("orange", "#c98b00"),
    SILVER: ("silver", "#4a525c"),
}


def variables() -> tuple[str, str]:
    """Return the CSS declarations of the light theme and of the dark one."""
    light = " ".join(f"--{name}: {colour};" for colour, (name, _) in THEME.items())
    return light, " ".join(f"--{name}: {dark};" for name, dark in THEME.values())
