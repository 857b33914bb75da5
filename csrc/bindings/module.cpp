// The extension module's table of contents.
#include <pybind11/pybind11.h>

#include "bindings/registrars.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "Compiled kernels of subgrad_fast. Private: import subgrad_fast instead.";
  subgrad::register_entries(m);
  subgrad::register_gather(m);
  subgrad::register_rows(m);
  subgrad::register_runtime(m);
  subgrad::register_update(m);
  subgrad::register_sample(m);
  subgrad::register_select(m);
  subgrad::register_sparse(m);
  subgrad::register_sparsity(m);
  subgrad::register_weighted(m);
  subgrad::register_cuda_sample(m);  // adds to what sample and weighted have
  subgrad::register_cuda_select(m);
  subgrad::register_cuda_sparse(m);  // after register_sparse, whose types it takes
}
