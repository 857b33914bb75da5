#include "bindings/loading/field.h"

#include <utility>

namespace subgrad {

Field Field::pooled(py::array source, const py::object& like, py::object wrap) {
  Field field;
  field.rows_ = rows_of(source, {"source"});
  field.shown_.emplace(like, source, std::move(wrap));
  field.source_ = std::move(source);
  return field;
}

Field Field::made(py::object source, py::object make) {
  Field field;
  field.rows_ = rows_of(source, {"source"});
  field.source_ = std::move(source);
  field.make_ = std::move(make);
  return field;
}

Field Field::indexed(py::object index) {
  Field field;
  field.index_ = std::move(index);
  return field;
}

}  // namespace subgrad
