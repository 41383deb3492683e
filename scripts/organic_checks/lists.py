"""Which molecules the report looks at."""

from __future__ import annotations

DRUGS = {
    "ibuprofen": "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "naproxen": "COc1ccc2cc(ccc2c1)C(C)C(=O)O",
    "diazepam": "CN1C(=O)CN=C(c2ccccc2)c2cc(Cl)ccc12",
    "lidocaine": "CCN(CC)CC(=O)Nc1c(C)cccc1C",
    "fluoxetine": "CNCCC(Oc1ccc(cc1)C(F)(F)F)c1ccccc1",
    "celecoxib": "Cc1ccc(cc1)-c1cc(nn1-c1ccc(cc1)S(N)(=O)=O)C(F)(F)F",
    "penicillin G": "CC1(C)SC2C(NC(=O)Cc3ccccc3)C(=O)N2C1C(=O)O",
    "haloperidol": "O=C(CCCN1CCC(O)(CC1)c1ccc(Cl)cc1)c1ccc(F)cc1",
}
FLEXIBLE = ("ibuprofen", "lidocaine", "penicillin G")
CONFORMERS = 10
# SMILES, and the four atoms of the torsion: (heavy) atoms as they stand there.
TORSIONS = {
    "biphenyl": ("c1ccccc1-c1ccccc1", (4, 5, 6, 7)),
    "butane": ("CCCC", (0, 1, 2, 3)),
    "ethanol, C-C-O-H": ("[H]OCC", (0, 1, 2, 3)),
    "N-methylacetamide": ("CC(=O)NC", (0, 1, 3, 4)),
    "dimethyl disulfide": ("CSSC", (0, 1, 2, 3)),
}
VIBRATING = {
    "water": "O",
    "methanol": "CO",
    "ethanol": "CCO",
    "acetic acid": "CC(=O)O",
    "acetone": "CC(C)=O",
    "methylamine": "CN",
    "formamide": "NC=O",
    "benzene": "c1ccccc1",
    "pyridine": "c1ccncc1",
    "dimethyl sulfide": "CSC",
    "chloromethane": "CCl",
    "difluoromethane": "FCF",
}
# SMILES, and the bond that is stretched.
STRETCHES = {
    "ethane, C-C": ("CC", (0, 1)),
    "methanol, C-O": ("CO", (0, 1)),
    "methanol, O-H": ("[H]OC", (1, 0)),
    "methylamine, C-N": ("CN", (0, 1)),
    "chloromethane, C-Cl": ("CCl", (0, 1)),
    "methanethiol, C-S": ("CS", (0, 1)),
    "fluoromethane, C-F": ("CF", (0, 1)),
    "ethene, C=C": ("C=C", (0, 1)),
}
# SMILES, and each proton with the atom that it leaves and the one that it goes to.
PROTONS = {
    "malonaldehyde": ("[H]O/C=C\\C=O", ((0, 1, 5),)),
    "acetylacetone": ("[H]O/C(C)=C\\C(C)=O", ((0, 1, 7),)),
}
WATERS = range(2, 9)
MOVING = {
    "ethanol": "CCO",
    "alanine dipeptide": "CC(=O)NC(C)C(=O)NC",
    "ibuprofen": DRUGS["ibuprofen"],
}
ALKANES = (3, 6, 13, 26, 40, 66)  # carbon atoms: 11 to 200 atoms
STRANGE = {
    "hydrazine": "NN",
    "hydrogen peroxide": "OO",
    "nitrogen trifluoride": "FN(F)F",
    "chlorine monoxide": "ClOCl",
    "hydrazoic acid": "N=[N+]=[N-]",
    "ozone": "O=[O+][O-]",
    "cubane": "C12C3C4C1C5C2C3C45",
    "sulfur, S8": "S1SSSSSSS1",
    "butatriene": "C=C=C=C",
}
