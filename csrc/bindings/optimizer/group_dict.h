// Reading the dicts that torch's optimizers keep their groups and state in. Every function throws
// what Python raised.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>

#include "core/sgd_params.h"

namespace subgrad {

namespace py = pybind11;

// Interned once: looking a name up is then a pointer comparison.
PyObject* interned(const char* name);

// Borrowed references; `dict_item` gives null for what is not there, `required` a KeyError.
PyObject* dict_item(PyObject* dict, PyObject* key);
PyObject* required(PyObject* dict, PyObject* key);

// False for what is not there.
bool truth(PyObject* dict, PyObject* key);

// A number, or a tensor of one element. `torchs` is set where torch has to judge: a tensor that
// wants a gradient, a number that float32 cannot hold.
double number(PyObject* dict, PyObject* key, bool& torchs);

// Reads the terms of a group, the learning rate only if asked to; those that torch's groups lack
// may be missing. `torchs` as above; `group` is its index, for messages.
void read_sgd_params(PyObject* dict, std::size_t group, bool with_lr, SgdParams& params,
                     bool& torchs);

// Whether every value, but that of `except`, is a number or None: it then changes only together
// with the dict.
bool plain_values(PyObject* dict, PyObject* except);

// A number that changes whenever the dict does, where Python has one (PEP 509, until 3.11): to read
// it touches one cache line, a look-up three. Else 0.
std::uint64_t dict_version(PyObject* dict);

}  // namespace subgrad
