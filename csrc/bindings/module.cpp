// The extension module's table of contents.
#include <pybind11/pybind11.h>

#include "bindings/registrars.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "Compiled kernels of subgrad_fast. Private: import subgrad_fast instead.";
  subgrad::register_exchange(m);
  subgrad::register_loading(m);
  subgrad::register_rows(m);
  subgrad::register_runtime(m);
  subgrad::register_dense(m);
  subgrad::register_sampling(m);
  subgrad::register_select(m);
  subgrad::register_threshold(m);
  subgrad::register_sparsify(m);
  subgrad::register_weighted(m);
  subgrad::register_cuda_sampling(m);  // adds to what sample and weighted have
  subgrad::register_cuda_select(m);
  subgrad::register_cuda_threshold(m);  // after register_threshold, whose types it takes

  auto testing = m.def_submodule("testing", "What only tests and tools ask for.");
  subgrad::register_testing(testing);
}
