// One registrar per concept; module.cpp is their table of contents.
#pragma once

#include <pybind11/pybind11.h>

namespace subgrad {

void register_gather(pybind11::module_& m);
void register_runtime(pybind11::module_& m);
void register_update(pybind11::module_& m);
void register_sample(pybind11::module_& m);
void register_select(pybind11::module_& m);
void register_sparse(pybind11::module_& m);
void register_weighted(pybind11::module_& m);

}  // namespace subgrad
