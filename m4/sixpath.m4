# SPDX-License-Identifier: GPL-2.0-or-later

# SIXPATH_CFLAG(VARIABLE, FLAG): append FLAG to VARIABLE if the compiler takes it.
AC_DEFUN([SIXPATH_CFLAG], [
	AC_MSG_CHECKING([whether $CC takes $2])
	sixpath_save_CFLAGS=$CFLAGS
	CFLAGS="$CFLAGS -Werror $2"
	AC_COMPILE_IFELSE([AC_LANG_PROGRAM([], [])],
		[$1="[$]$1 $2"
		 AC_MSG_RESULT([yes])],
		[AC_MSG_RESULT([no])])
	CFLAGS=$sixpath_save_CFLAGS
])

# SIXPATH_LDFLAG(VARIABLE, FLAG): the same for the linker.
AC_DEFUN([SIXPATH_LDFLAG], [
	AC_MSG_CHECKING([whether $CC links with $2])
	sixpath_save_LDFLAGS=$LDFLAGS
	LDFLAGS="$LDFLAGS $2"
	AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])],
		[$1="[$]$1 $2"
		 AC_MSG_RESULT([yes])],
		[AC_MSG_RESULT([no])])
	LDFLAGS=$sixpath_save_LDFLAGS
])

# SIXPATH_LIB(NAME, LIBRARY, HEADER, FUNCTION, DEBIAN-PACKAGE): a library without
# pkg-config file. Sets NAME_LIBS, or stops and names the package.
AC_DEFUN([SIXPATH_LIB], [
	AC_CHECK_HEADER([$3], [],
		[AC_MSG_ERROR([$3 not found; on Debian: apt-get install $5])])
	AC_CHECK_LIB([$2], [$4], [$1_LIBS="-l$2"],
		[AC_MSG_ERROR([lib$2 not found; on Debian: apt-get install $5])])
	AC_SUBST([$1_LIBS])
])

# SIXPATH_OPTIONAL(NAME, WHAT, PKG-CONFIG-MODULES, PREFIX, MACRO, DEBIAN-PACKAGES): --with-NAME
# and --without-NAME; without either, used if found. Sets have_NAME, PREFIX_CFLAGS, PREFIX_LIBS
# and defines MACRO.
AC_DEFUN([SIXPATH_OPTIONAL], [
	AC_ARG_WITH([$1], [AS_HELP_STRING([--without-$1], [leave out: $2])],
		[], [with_$1=auto])
	have_$1=no
	AS_IF([test "x$with_$1" != xno],
		[PKG_CHECK_MODULES([$4], [$3], [have_$1=yes], [have_$1=no])])
	AS_IF([test "x$have_$1" = xyes],
		[AC_DEFINE([$5], [1], [Define for: $2.])],
		[test "x$with_$1" = xyes],
		[AC_MSG_ERROR([--with-$1 needs $3; on Debian: apt-get install $6])])
])

# SIXPATH_FEATURE(NAME, WHAT, MACRO): --disable-NAME. MACRO is 1 or 0 in config.h, and the name of
# the Makefiles' conditional.
AC_DEFUN([SIXPATH_FEATURE], [
	AC_ARG_ENABLE([$1], [AS_HELP_STRING([--disable-$1], [leave out of sixpath-redir: $2])],
		[], [enable_$1=yes])
	AS_IF([test "x$enable_$1" != xno], [enable_$1=yes sixpath_value=1], [sixpath_value=0])
	AC_DEFINE_UNQUOTED([$3], [$sixpath_value], [1 or 0, built in or not: $2.])
	AM_CONDITIONAL([$3], [test "x$enable_$1" = xyes])
])

# SIXPATH_TOLD(NAME, VALUE): put NAME into sixpath_built or, if VALUE is no, sixpath_left_out.
AC_DEFUN([SIXPATH_TOLD], [
	AS_IF([test "x$2" = xno], [sixpath_left_out="$sixpath_left_out $1"],
		[sixpath_built="$sixpath_built $1"])
])
