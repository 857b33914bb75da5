// One registrar per concept; module.cpp is their table of contents.
#pragma once

#include <pybind11/pybind11.h>

namespace subgrad {

void register_chosen(pybind11::module_& m);
void register_clip(pybind11::module_& m);
void register_cuda(pybind11::module_& m);
void register_dense(pybind11::module_& m);
void register_exchange(pybind11::module_& m);
void register_loading(pybind11::module_& m);
void register_memory(pybind11::module_& m);
void register_optimizer(pybind11::module_& m);
void register_rows(pybind11::module_& m);
void register_runtime(pybind11::module_& m);
void register_sampling(pybind11::module_& m);
void register_select(pybind11::module_& m);
void register_sgd_params(pybind11::module_& m);
void register_sparsify(pybind11::module_& m);
void register_testing(pybind11::module_& m);
void register_threshold(pybind11::module_& m);

}  // namespace subgrad
