"""Tools that look at the Triton kernels: ``check`` on a GPU, ``registers`` without."""
