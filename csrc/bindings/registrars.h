// One registrar per concept; module.cpp is their table of contents.
#pragma once

#include <pybind11/pybind11.h>

namespace subgrad {

void register_cuda_sample(pybind11::module_& m);
void register_cuda_select(pybind11::module_& m);
void register_cuda_sparse(pybind11::module_& m);
void register_entries(pybind11::module_& m);
void register_gather(pybind11::module_& m);
void register_rows(pybind11::module_& m);
void register_runtime(pybind11::module_& m);
void register_update(pybind11::module_& m);
void register_sample(pybind11::module_& m);
void register_select(pybind11::module_& m);
void register_sparse(pybind11::module_& m);
void register_sparsity(pybind11::module_& m);
void register_weighted(pybind11::module_& m);

}  // namespace subgrad
