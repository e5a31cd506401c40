"""Knowledge Transfer: teach a vision-language model a new visual concept from its description."""
