"""`python -m physiglot.montecarlo` prints energies of chains beside exact ones."""

from .energies import main

main()
