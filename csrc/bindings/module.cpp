// The extension module's table of contents: a submodule for each word.
#include <pybind11/pybind11.h>

#include "bindings/border/registrars.h"

namespace {

struct Submodule {
  const char* name;
  void (*fill)(pybind11::module_&);
};

constexpr Submodule kSubmodules[] = {
    {"chosen", &subgrad::register_chosen},     {"clip", &subgrad::register_clip},
    {"cuda", &subgrad::register_cuda},         {"dense", &subgrad::register_dense},
    {"exchange", &subgrad::register_exchange}, {"loading", &subgrad::register_loading},
    {"memory", &subgrad::register_memory},     {"optimizer", &subgrad::register_optimizer},
    {"rows", &subgrad::register_rows},         {"sampling", &subgrad::register_sampling},
    {"select", &subgrad::register_select},     {"sparsify", &subgrad::register_sparsify},
    {"testing", &subgrad::register_testing},   {"threshold", &subgrad::register_threshold},
};

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "Compiled kernels of subgrad_fast. Private: import subgrad_fast instead.";
  subgrad::register_runtime(m);
  subgrad::register_sgd_params(m);
  for (const Submodule& submodule : kSubmodules) {
    pybind11::module_ made = m.def_submodule(submodule.name);
    submodule.fill(made);
  }
}
