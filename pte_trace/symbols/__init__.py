"""What traced programs and their files say of their code. Both may be anybody's."""
