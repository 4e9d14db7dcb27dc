/*
 * Loads the addon of Node, as a Node for the same C library does, and calls
 * abs() and close() through it. Has the part of Node-API that this needs.
 */

#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define UNUSED(name)                                                           \
  EXPORT int name(void) {                                                      \
    fprintf(stderr, "%s was called\n", #name);                                 \
    exit(1);                                                                   \
  }

struct value;
struct info {
  size_t count;
  struct value **values;
  void *data;
};
typedef struct value *(*callback)(void *env, struct info *info);
struct value {
  const char *text;
  double number;
  callback function;
  void *data;
};

static struct value *exports[2];
static size_t exported;

static struct value *value(struct value content) {
  struct value *copy = malloc(sizeof content);
  *copy = content;
  return copy;
}

EXPORT int napi_create_function(void *env, const char *name, size_t length,
                                callback function, void *data,
                                struct value **result) {
  (void)env, (void)length;
  *result = value((struct value){name, 0, function, data});
  return 0;
}

EXPORT int napi_set_named_property(void *env, struct value *object,
                                   const char *name, struct value *property) {
  (void)env, (void)object, (void)name;
  exports[exported++] = property;
  return 0;
}

EXPORT int napi_get_cb_info(void *env, struct info *info, size_t *count,
                            struct value **values, struct value **this,
                            void **data) {
  (void)env, (void)this;
  for (size_t i = 0; count && i < *count && i < info->count; i++) {
    values[i] = info->values[i];
  }
  if (count) *count = info->count;
  *data = info->data;
  return 0;
}

EXPORT int napi_get_value_string_utf8(void *env, struct value *from, char *to,
                                      size_t capacity, size_t *length) {
  (void)env;
  *length = strlen(from->text);
  if (to) snprintf(to, capacity, "%s", from->text);
  return 0;
}

EXPORT int napi_get_value_double(void *env, struct value *from, double *to) {
  (void)env;
  *to = from->number;
  return 0;
}

EXPORT int napi_create_int32(void *env, int32_t from, struct value **to) {
  (void)env;
  *to = value((struct value){.number = from});
  return 0;
}

EXPORT int napi_set_instance_data(void *env, void *data, void *finalizer,
                                  void *hint) {
  (void)env, (void)data, (void)finalizer, (void)hint;
  return 0;
}

EXPORT int napi_throw_error(void *env, const char *code, const char *message) {
  (void)env, (void)code;
  fprintf(stderr, "%s\n", message);
  exit(1);
}

EXPORT int napi_throw_type_error(void *env, const char *code,
                                 const char *message) {
  return napi_throw_error(env, code, message);
}

UNUSED(napi_create_bigint_int64)
UNUSED(napi_create_double)
UNUSED(napi_get_typedarray_info)
UNUSED(napi_get_value_bigint_int64)
UNUSED(napi_get_value_bigint_uint64)
UNUSED(napi_is_detached_arraybuffer)

static struct value *call(struct value *function, size_t count,
                          struct value **values) {
  struct info info = {count, values, function->data};
  return function->function(0, &info);
}

static double call_c(const char *name, double argument) {
  struct value library = {.text = "libc.so.6"}, function = {.text = name},
               signature = {.text = "ii"}, number = {.number = argument};
  struct value *names[] = {&library, &function, &signature};
  struct value *bound = call(exports[0], 3, names);
  return call(bound, 1, (struct value *[]){&number})->number;
}

int main(int count, char **arguments) {
  void *addon = count == 2 ? dlopen(arguments[1], RTLD_NOW) : 0;
  struct value *(*start)(void *, void *) =
      addon ? dlsym(addon, "napi_register_module_v1") : 0;
  if (!start) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  start(0, 0);
  double seven = call_c("abs", -7), minus = call_c("close", -1);
  double error = call(exports[1], 0, 0)->number;
  printf("%g %g %g\n", seven, minus, error);
  return 0;
}
